"""Which languages and scripts there are, and in which script a text is written."""
