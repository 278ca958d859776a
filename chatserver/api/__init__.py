"""Routes and handlers: a request becomes calls on chat and one of a closed set of answers."""
