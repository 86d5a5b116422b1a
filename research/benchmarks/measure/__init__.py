"""Agreement first; then seconds and bytes, each contender in a process of its own."""
