pgkeep {
  required_version = ">= 0.1"
}

variable "env" {
  type    = string
  default = "prod"

  validation {
    condition     = contains(["prod", "staging"], var.env)
    error_message = "env must be prod or staging, got ${var.env}."
  }
}

locals {
  clusters = {
    eu = { host = "10.0.1.1,10.0.1.3" } # libpq's host list: the writable one is found and followed
    us = { host = "10.0.2.1" }
  }
}

repository "main" {
  path = "/srv/pgkeep" # absolute and clean
  host = "backup1"     # a path belongs to a machine; elsewhere it is unknown, never empty

  compression {
    algorithm = "zstd" # zstd | gzip (pgzip) | lz4
    level     = 1
  }
}

server "orders" {
  for_each     = local.clusters # server.orders["eu"], stored as "orders.eu"
  conninfo     = "host=${each.value.host} user=pgkeep dbname=postgres sslmode=verify-full"
  repositories = [repository.main] # WAL and backups go to each, in one pass

  identity { # optional pin; anything else is refused until it is named here
    system_identifiers = ["7335180256203400928"]
  }

  slot {                # created with reserved WAL; default name pgkeep_orders_eu
    on_lost = "replace" # or "fail"
  }

  receiver {
    host          = "backup1"
    synchronous   = false   # true: RPO 0 when named in synchronous_standby_names; commits then wait for this receiver
    acknowledge   = "spool" # or "repository"
    spool         = "/var/lib/pgkeep/spool"
    on_spool_full = "wait" # the slot keeps the WAL; or "gap"
    push_every    = "10s"  # upload of the unfinished segment
  }

  backup {
    full_every           = "7d"
    max_rate             = "200MiB/s"
    check_page_checksums = true
    checkpoint           = "spread" # by hand the default is "fast"
    from                 = "primary"
    transfer_compression = "none"
  }

  objective { # checked: by the receiver's lag now, by measured restore and replay rates
    rpo = "10s"
    rto = "30m"
  }
}

schedule "nightly" {
  servers      = [server.orders] # all instances of the for_each; or server.orders["eu"]
  backup       = "auto"          # auto | full | incremental
  cron         = "0 1 * * *"
  timezone     = "Europe/Berlin"
  if_missed    = "run_once" # or "skip"
  start_within = "4h"
}

retention "standard" {
  servers            = [server.orders]
  repositories       = [repository.main]
  recovery_window    = "7d" # any moment of the last 7 days
  wal_window         = "7d" # or of fewer, while the backups before that stay
  redundancy         = 2    # and the newest N backups
  minimum_redundancy = 2    # never fewer usable backups than this, whatever else says
  max_delete         = 5    # a prune of more waits for a name
  enforce            = "auto"

  keep { # single backups, each with the WAL that makes it consistent
    daily    = 7
    weekly   = 4
    monthly  = 12
    yearly   = 3
    timezone = "Europe/Berlin"
  }
}

verify "monthly" {
  servers = [server.orders]
  level   = "full" # quick | full
  cron    = "0 4 1 * *"
  max_age = "35d"
}

recovery "before_drop" { # inert until asked for: pgkeep recover before_drop, plan --recover=before_drop
  server = server.orders["eu"]

  target { # exactly one of time | lsn | xid | name | immediate | latest; a time needs its offset
    time      = "2026-02-10T21:16:17Z"
    inclusive = true
    timeline  = "latest"
    action    = "pause" # pause | promote | shutdown
  }

  destination {
    host        = "db-restore1"
    path        = "/var/lib/postgresql/15/restore"
    owner       = "postgres"
    bindir      = "/usr/lib/postgresql/15/bin"
    port        = 5499
    tablespaces = { fast = "/mnt/nvme/fast" }
    wal         = "fetch" # or "copy"
    databases   = ["shop", "crm"] # the others get empty files, and are dropped after recovery; without it all are restored
  }

  check "orders" { # asked of the copy at its target: pgkeep recover before_drop --start
    database = "shop"
    sql      = "select count(*) > 0 from orders"
    expect   = "t"
  }
}

drill "weekly" { # restore for real, start PostgreSQL, ask it, throw it away, keep the evidence
  server  = server.orders["eu"]
  cron    = "0 6 * * 0"
  max_age = "8d"

  target {
    latest = true
  }

  check "orders" {
    database = "shop"
    sql      = "select count(*) > 0 from orders"
    expect   = "t"
  }
}

approval { # what may run without a name: "safe" and "declared" by default
  auto = ["safe", "declared"]
}

removed {
  from     = server.legacy
  conninfo = "host=10.0.9.9 user=pgkeep dbname=postgres" # needed to drop its slot
  slot     = "drop"
  spool    = "/srv/legacy" # where its receiver wrote, so that it is found and ended
  backups  = "keep"
}

output "servers" {
  value = keys(server.orders)
}
