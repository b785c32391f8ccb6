"""One tier's pool of worker processes scaled on its backlog, while another tier's stays as it is."""
