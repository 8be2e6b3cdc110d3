"""Where requests come in: Ganeti's script, and the administrator's command. They parse, call, and print."""
