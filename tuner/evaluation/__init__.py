"""What detections are worth: COCO metrics, rates, counts, errors, cost, and the choice of operating points."""
