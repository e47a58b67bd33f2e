# What `pgkeep demo` protects. It writes the values of these variables into pgkeep.vars.hcl.
variable "work" {
  type        = string
  description = "directory in which everything of the demo lives"
  default     = "/var/tmp/pgkeep-demo"
}

variable "bindir" {
  type        = string
  description = "directory of PostgreSQL's programs"
  default     = "/usr/lib/postgresql/15/bin"
}

variable "owner" {
  type        = string
  description = "user who runs PostgreSQL"
  default     = "postgres"
}

repository "main" {
  path = "${var.work}/repository"
}

server "shop" {
  conninfo     = "host=${var.work}/socket port=5432 user=postgres dbname=postgres"
  repositories = [repository.main]

  receiver {
    spool = "${var.work}/spool"
  }

  backup {
    checkpoint = "fast"
  }
}

schedule "nightly" {
  servers  = [server.shop]
  backup   = "full"
  cron     = "0 1 * * *"
  timezone = "Europe/Berlin"
}

retention "standard" {
  servers         = [server.shop]
  recovery_window = "7d"
  redundancy      = 2
}

recovery "before_drop" {
  server = server.shop

  target {
    latest = true # or name a moment on the command line: --to-time
    action = "promote"
  }

  destination {
    path   = "${var.work}/restored"
    owner  = var.owner
    bindir = var.bindir
    port   = 5433
  }
}
