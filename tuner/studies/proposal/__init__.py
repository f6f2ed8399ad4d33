"""The first study for a data set and a device, as `tuner init` writes it; `propose` puts it together."""
