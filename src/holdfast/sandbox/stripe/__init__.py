"""Stripe's v1 protocol as far as taking, capturing, cancelling and refunding card payments needs it."""
