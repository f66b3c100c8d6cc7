"""Tells people and programs of incidents: Alertmanager, webhooks, chat."""
