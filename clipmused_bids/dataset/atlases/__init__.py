"""Regions: label images, derivatives' segmentations, TemplateFlow."""
