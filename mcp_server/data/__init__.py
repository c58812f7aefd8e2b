"""Tables: one gate for paths, readers, profiles, preparation and splits."""
