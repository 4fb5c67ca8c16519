"""What goes out to people: how it is written and told from a forgery, who gets it, and that they do."""
