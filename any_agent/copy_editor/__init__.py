"""The copy editor: an offline proofreader, a manuscript to try it on, and the agent that drives them."""
