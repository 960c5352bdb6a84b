"""Training: labelled cases in, a model package out; a plain torch loop."""
