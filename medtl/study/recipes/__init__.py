"""Published studies carried out twice: as they were published, and as a sound comparison."""
