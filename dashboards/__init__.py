"""Pictures: figures made from tables, and the pages that arrange them."""
