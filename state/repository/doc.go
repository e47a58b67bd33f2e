// Package repository knows what keys mean.
package repository
