"""From images to rows of features. Each module is a component, loaded by name by the catalog."""
