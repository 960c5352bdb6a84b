"""From a volume to a label map: tiles, stitching, the network's engine and the predictor."""
