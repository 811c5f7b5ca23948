"""Every statement of referrals, by capability."""
