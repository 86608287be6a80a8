"""The commands of `distkit`: see, check, remove, measure. Only this room draws and parses."""
