"""Self-supervised pre-training: scans without labels in, weights of an encoder out.

run.py is the whole of it: scans.py finds the scans, data.py brings them into a cache, loop.py trains network.py on the tasks of
masking.py and contrast.py. settings.py holds every setting; measure.py tells how well scans are reconstructed that were not
trained on; encoder_file.py writes what a training starts from.
"""
