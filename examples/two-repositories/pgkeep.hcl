# WAL and backups go to two disks in one pass; each has its own retention.

repository "near" {
  path = "/srv/pgkeep"
}

repository "far" {
  path = "/mnt/vault/pgkeep" # an NFS mount, say; while it is not mounted, nothing is planned from it

  compression {
    algorithm = "zstd"
    level     = 7
  }
}

server "orders" {
  conninfo     = "service=orders"
  repositories = [repository.near, repository.far]
}

schedule "nightly" {
  servers = [server.orders]
  backup  = "full"
  cron    = "0 1 * * *"
}

retention "near" {
  servers         = [server.orders]
  repositories    = [repository.near]
  recovery_window = "3d"
}

retention "far" {
  servers         = [server.orders]
  repositories    = [repository.far]
  recovery_window = "60d"
  max_delete      = 3

  keep { # single backups for years; WAL for the 60 days
    monthly = 12
    yearly  = 5
  }
}
