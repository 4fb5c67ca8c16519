"""What Holdfast knows. Domains never import each other; what crosses them is a flow."""
