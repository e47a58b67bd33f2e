# A server is given up: its slot must go, so that it stops keeping WAL. Its backups stay.

repository "main" {
  path = "/srv/pgkeep"
}

server "orders" {
  conninfo     = "host=10.0.1.1 user=pgkeep dbname=postgres sslmode=verify-full"
  repositories = [repository.main]
}

retention "standard" {
  servers         = [server.orders]
  recovery_window = "7d"
}

removed {
  from     = server.legacy
  conninfo = "host=10.0.9.9 user=pgkeep dbname=postgres sslmode=verify-full"
  slot     = "drop"
  backups  = "keep"
}
