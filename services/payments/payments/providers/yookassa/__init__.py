"""YooKassa: payments in rubles by SBP and card."""
