"""A page that shows a data set, or sources: facts are gathered, plots drawn, and put into one file of HTML."""
