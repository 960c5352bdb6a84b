"""Training: labelled cases in, a model package out; a plain torch loop.

run.py is the whole of it: split.py says who trains, data.py brings the cases into a cache, loop.py trains by steps of step.py,
outcome/ makes the package. samples/ gives the loop its patches, losses/ judges them, records/ is what can be watched.
settings.py holds every setting; distributed.py, interrupt.py, checkpoint.py and resume.py let several processes train, stop
and go on exactly.
"""
