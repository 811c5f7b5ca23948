"""Every SQL statement of this service except those of the audit.

A transaction that changes jobs first locks the subscriptions of their people, ordered by person.
So no two transactions wait for each other in a circle.
"""
