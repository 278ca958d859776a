"""What a chat is: rooms, members, cursors, presence. Knows no sockets and no wire."""
