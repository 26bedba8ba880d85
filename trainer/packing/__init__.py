"""The training loop: runs that share each forward and backward pass of one frozen base."""
