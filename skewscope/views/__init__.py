"""What people ask a recording beside "who is slow": one question a file, tables in, tables and pictures' plans out."""
