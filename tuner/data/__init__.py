"""COCO index, checks, image cache, letterbox, augmentation, batches and generated scenes."""
