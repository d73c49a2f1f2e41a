"""A table of customers from elsewhere: columns recognised, an experiments folder proposed, gold published."""
