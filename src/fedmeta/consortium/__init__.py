"""Four hospitals that meta-learn one diagnosis model: their data, what each gains, and the report of it.

It is not medical advice.
"""
