"""The cellar: every statement of this service.

Whoever changes jobs locks the subscriptions of their people first, by person; so nobody waits in a circle.
"""
