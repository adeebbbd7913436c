"""Where functions run: worker processes of this machine, or a runner of Beam; they know nothing of the stages."""
