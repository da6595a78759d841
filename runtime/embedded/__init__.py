"""A worker inside of a Python service: graphs of tasks, submitted from trio, asyncio or threads."""
