package postgres

import (
	"context"
	"fmt"
)

// SummariesSince is the first major version that keeps WAL summaries, from which it tells which pages changed.
const SummariesSince = 17

// NoSummaries tells why the server cannot say which pages changed since another backup; empty: it can, as far as its
// settings go. Whether its summaries reach back far enough only BASE_BACKUP tells.
func (r *Replication) NoSummaries(ctx context.Context) (why string, err error) {
	if major := r.version / 10000; major < SummariesSince {
		return fmt.Sprintf("PostgreSQL %d keeps no WAL summaries", major), nil
	}
	for _, s := range []struct{ name, want string }{{"summarize_wal", "on"}, {"block_size", "8192"}, {"segment_size", "1GB"}} {
		row, err := r.askRow(ctx, "SHOW "+s.name, "ask "+r.server+" for "+s.name, 1)
		if err != nil {
			return "", err
		}
		if got := cleanText(string(row[0])); got != s.want {
			return s.name + " is " + got, nil
		}
	}
	return "", nil
}

// Checksums gives data_checksums: on, off, or what a newer server says while they are switched.
func (r *Replication) Checksums(ctx context.Context) (string, error) {
	row, err := r.askRow(ctx, "SHOW data_checksums", "ask "+r.server+" for data_checksums", 1)
	if err != nil {
		return "", err
	}
	return cleanText(string(row[0])), nil
}
