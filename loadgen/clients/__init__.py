"""Virtual clients: thousands of objects on one epoll in one task, when they open, and what they say when."""
