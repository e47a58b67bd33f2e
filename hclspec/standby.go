package hclspec

import (
	"regexp"
	"strings"
)

// passwordIn finds what a connection string may hold that plans must not show.
var passwordIn = regexp.MustCompile(`(?i)(^|[\s'])(password|sslpassword|oauth_client_secret|scram_client_key|scram_server_key)\s*=`)

// primaryText is a connection string that plans show: it has no password, which the owner's password file holds.
func primaryText() kind {
	return matching("connection string without password", func(s string) error {
		switch {
		case strings.TrimSpace(s) == "" || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f }):
			return mistake{"A connection string of libpq is wanted.", `Write for example "host=10.0.1.1 user=replicator".`}
		case passwordIn.MatchString(s):
			return mistake{"It holds a password, and plans show this attribute.", "Write passfile=/path/of/the/file, or use the owner's ~/.pgpass or a client certificate."}
		case strings.Contains(s, "://") || !strings.Contains(s, "="):
			return mistake{"It is not in the form keyword=value.", `Write for example "host=10.0.1.1 user=replicator".`}
		}
		return nil
	}, refusal{"empty", `""`}, refusal{"a password", `"host=a password=b"`}, refusal{"a URI", `"postgres://a"`}, refusal{"control characters", `"host=a\nuser=b"`})
}

// checkStandby refuses a target that a standby, which goes on for ever, does not know.
func (r Recovery) checkStandby() error {
	d, t := r.Destination, r.Target
	switch {
	case d.PrimaryConninfo == "" && d.PrimarySlot != "":
		return mistake{"primary_slot_name is the slot of a standby, and there is no primary_conninfo.", ""}
	case d.PrimaryConninfo != "" && len(d.Databases) > 0:
		return mistake{"A standby has all databases of its primary.", "Leave out databases, or primary_conninfo."}
	case d.PrimaryConninfo != "" && (!t.Latest && !t.Immediate || t.Timeline != 0):
		return mistake{"A standby follows its primary for ever, and on whichever timeline that is.", "Write target { latest = true } beside primary_conninfo, or leave that out."}
	}
	return nil
}
