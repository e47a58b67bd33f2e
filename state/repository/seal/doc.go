// Package seal compresses what a repository stores.
package seal
