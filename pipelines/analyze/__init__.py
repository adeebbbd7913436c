"""Pass 1: the rounds of learning from the training rows, and the graph that is made of what was learned."""
