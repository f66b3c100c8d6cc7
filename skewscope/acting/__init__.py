"""From an incident to an act and its proof: decides by the policy, writes down, sends, measures, takes back."""
