"""Who is told of what, and how does it reach them? One incident is one thread, in every service that it is told to."""
