"""What a task and a worker process cost in SQL, memory and connections, and what that makes at a million a day."""
