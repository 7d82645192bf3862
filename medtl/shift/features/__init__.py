"""Images to rows of features. Components; each module is loaded by name through the catalog."""
