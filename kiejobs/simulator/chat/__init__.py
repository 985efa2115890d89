"""The chat models: four dialects, each as its vendor speaks it, whole or as a stream of events."""
