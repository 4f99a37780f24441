"""Many fits on few lanes: the pool of XLA, its queue, and the devices it runs on."""
