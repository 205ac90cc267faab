"""Images: where they come from, how they are prepared once, how they are read many times.

prepare   a source (torchvision, a folder of images, or one of three sets that need no download) → a folder of uint8
          arrays with a manifest whose hash pins it
loader    such a folder, mapped into memory → batches of floats in [0, 1]
order     which images are in the batch of a step
augment   changes them at random
"""
