"""Problems small enough to see through: a batch of similarities, an optimizer's valley, tasks on windows of patches."""
