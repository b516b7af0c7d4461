"""The pages of templates with their grants, and of VMs."""
