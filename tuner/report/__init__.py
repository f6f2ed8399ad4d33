"""Tables, plots, the HTML report and what is attached to the dashboard."""
