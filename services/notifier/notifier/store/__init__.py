"""Every statement of notifier, by capability."""
